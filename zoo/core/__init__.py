"""What every family file is written in: its declaration, its registry, its layer names."""
