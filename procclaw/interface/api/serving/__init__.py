"""The HTTP/1.1 server, which mounts any WSGI application and knows nothing of jobs."""
