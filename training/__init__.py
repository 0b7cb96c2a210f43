"""How the starter models were made: data, training and export, from seeds."""
