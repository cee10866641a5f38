"""OTLP over HTTP: what other services send, in any language, becomes records as the service's own do."""
