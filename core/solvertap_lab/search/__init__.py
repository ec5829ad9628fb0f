"""Finding the weight of each method on the validation data: the same number of trials for every one."""
