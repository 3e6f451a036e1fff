"""Certificates for names that three servers share, which `scripts/test-fleet` asks for.

The servers, each with nginx, are behind HAProxy in TCP mode, behind DNAT by iptables' `statistic`, and behind several A
and AAAA records, all at once, over IPv4 and IPv6. `certbot-standalone-nfq answer` runs on each of them, and Certbot on
one. It gets one certificate after another from Pebble, for names that lead to each of the balancers, and renews it.
Clients load the site's page through each balancer meanwhile. Every validation has to be answered by the server that it
reaches, no page may fail, and no log may show a challenge.
"""
