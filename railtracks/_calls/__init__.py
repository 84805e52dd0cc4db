"""What users call: ``call``, ``call_batch``, ``call_stream``, ``call_sync``, ``broadcast`` and ``ask``."""
