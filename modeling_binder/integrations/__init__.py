"""Integrations with other libraries. Import only the module that you need, because each module imports its library."""
