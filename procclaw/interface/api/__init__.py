"""The HTTP API: who may ask (guard), what may be asked (routes), what is answered, on a server of our own (serving)."""
