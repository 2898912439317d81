"""Many runs trained as one batched program."""
