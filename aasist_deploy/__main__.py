"""`python -m aasist_deploy`, and so `torchrun -m aasist_deploy`."""

from aasist_deploy.cli import main

if __name__ == "__main__":
    main()
