"""Other programs, installed into environments of their own and timed beside ours."""
