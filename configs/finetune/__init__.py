"""One config for each kind of task: ``--config=finetune/classification``."""
