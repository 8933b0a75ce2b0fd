"""From a row of features to whole lots: the one path of training, replay and live. Pure."""
