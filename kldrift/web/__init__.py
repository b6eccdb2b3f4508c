"""HTTP: ingest, metrics, health and the API. Knows HTTP only; what it needs comes through `ports`."""
