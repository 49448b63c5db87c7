"""An example of an oathbound extension."""
