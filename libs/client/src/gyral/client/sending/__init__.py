"""Files and tables on their way to a stream: resumable, each row once."""
