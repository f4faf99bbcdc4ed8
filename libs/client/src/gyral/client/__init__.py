"""The SDK and the `gyral` command line: how people and programs drive Gyral from outside."""
