"""What people write for the program to read: its settings, once, at the start; and YAML and JSON files, strictly."""

from saga_coordinator.config.files import Document, FileFaulty, read_documents, read_json, read_text
from saga_coordinator.config.settings import (
    OPTIONS,
    Option,
    Settings,
    SettingsFaulty,
    load_settings,
    masked_url,
)

__all__ = [
    "OPTIONS",
    "Document",
    "FileFaulty",
    "Option",
    "Settings",
    "SettingsFaulty",
    "load_settings",
    "masked_url",
    "read_documents",
    "read_json",
    "read_text",
]
