"""Work on data at rest: compare two files, replay history, propose a first configuration."""
