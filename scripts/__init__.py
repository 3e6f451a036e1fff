"""What is run by hand: each shell script here does its set-up and then runs the module that it is about."""
