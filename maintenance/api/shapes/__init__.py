"""What is sent and answered, for the check of requests and for the OpenAPI description."""
