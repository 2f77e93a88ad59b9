"""The HTTP side: routes, pages, and how errors are answered. Everything is served from memory."""
