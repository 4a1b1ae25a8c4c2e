"""What a mixture costs beside one LoRA: `python -m bench`, or `make bench`."""
