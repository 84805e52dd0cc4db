"""What users call: ``call``, ``call_batch``, ``call_sync``, ``broadcast`` and ``ask``."""
