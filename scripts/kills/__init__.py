"""Kills at random moments, which `scripts/test-kills` asks for.

A process performs challenges, answers and cleans up as Certbot does it; it, its watchdog or both are killed meanwhile,
in each way in turn. Afterwards nothing may be left: no rule, no packet queue, no watchdog. Where process and watchdog
died together, the next run has to remove what is left. All the while bystanders ask the web server for its page, and
none of their requests may fail.
"""
