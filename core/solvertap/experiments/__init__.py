"""What `solvertap compare` trains: problems written once over array operators, one thin driver per framework."""
