"""The configs that come with bertjax: ``--config=tiny``, or ``from bertjax.configs.tiny import get_config``."""
