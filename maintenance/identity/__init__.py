"""Who somebody is: their address, what proves it (password, second factor), and how often that may be tried."""
