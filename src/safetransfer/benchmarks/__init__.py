"""What `safetransfer bench` measures."""
