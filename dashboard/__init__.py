"""GIF Studio's dashboard: starts studies and draws their records; it never imports torch."""
