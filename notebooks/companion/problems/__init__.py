"""What is trained: the data and the network of every experiment, as one `train.problem.Problem`."""
