"""The command line: ``railtracks run``, ``list``, ``show`` and others. Needs the extra ``cli``."""
