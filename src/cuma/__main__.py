"""`python -m cuma`, which is what torchrun can start: `torchrun --nproc-per-node 2 -m cuma train RECIPE`."""

from cuma.cli import main

if __name__ == "__main__":
    main()
