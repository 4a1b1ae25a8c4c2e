"""A person's adapter as an ordinary LoRA, for engines that know no routers."""
