"""The engine's version; part of every study's hash, so raise it when a number can change."""

ENGINE_VERSION = "0.1.1"
