"""Methods that give new items an ID embedding."""
