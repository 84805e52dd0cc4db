"""What people see of a run: the tree of its calls, and a summary. They are made from records alone."""
