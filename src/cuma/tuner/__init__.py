"""The method: a mixture of LoRA experts routed by what is asked and by who asks. Knows torch and peft only."""
