"""The gateway's HTTP: Open Inference V2 on raw ASGI, and what operators ask."""
