"""The command `answer`: any http-01 token of an account, for names that several machines share."""
