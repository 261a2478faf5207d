"""Pages: one file a topic. They read; what concerns a run they change through `maintenance.requests.launch` alone."""
