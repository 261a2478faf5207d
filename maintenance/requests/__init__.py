"""What is asked for, its plan and its launch: the one door for form, API and command line."""
