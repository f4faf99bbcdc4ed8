"""What a replay showed, for programs (report.json) and for people (report.html)."""
