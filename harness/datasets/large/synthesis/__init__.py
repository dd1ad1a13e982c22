"""Generated stand-ins for the large datasets: the official files, with a planted click model whose optimum is known."""
