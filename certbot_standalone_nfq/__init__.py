"""Certbot authenticator that answers challenges out of the packet stream.

    certbot certonly -a standalone-nfq -d example.com
    certbot certonly -a standalone-nfq --preferred-challenges tls-alpn-01 -d example.com
    certbot certonly -a standalone-nfq -d example.com -d '*.example.com'

While Certbot validates, the CA's own requests are taken out of the packet stream with NFQUEUE and answered. The server
on the port, whatever it is, is not stopped, not configured, not restarted, and does not see them; every other packet
reaches it unchanged. Names are validated by http-01, wildcards by dns-01 on the zone's own name server.

Options, hardly ever needed:

``--standalone-nfq-tls-alpn-01-port PORT``
    Port that clients address, on which tls-alpn-01 is validated (default: 443)
``--standalone-nfq-dns-01-port PORT``
    Port that clients address, on which dns-01 is validated (default: 53)
``--standalone-nfq-capture auto|iptables|iptables-nft|iptables-legacy|ebpf|nftables``
    How to capture packets: by rules of a firewall program, or by eBPF (default: the first of these that works, and eBPF
    before all others where connections are not tracked, or should not be)
``--standalone-nfq-queue-num NUMBER``
    NFQUEUE number to use, and the next one if challenges are on two ports (default: free ones of 28080 to 28083)
``--standalone-nfq-mark MASK``
    Two bits of the packet and connection mark (default: 0x30000000, or others if a rule uses these)
``--standalone-nfq-queue-client auto|netlink|fnfqueue``
    What to receive packets with (default: the fnfqueue package if installed, else the built-in client)
``--standalone-nfq-selection auto|prefilter|port|stateless-port``
    Which packets to look at (default: the first of these that the kernel can do): those that a prefilter in the kernel
    picks, all of the port, or all of the port without connection tracking
``--standalone-nfq-pcap FILE``
    File to write the validation's packets to, for Wireshark or tcpdump (default: none)
``--standalone-nfq-no-evidence``
    Do not look at connections to the port from outside, which explain a failure (default: look)

Certbot's own ``--http-01-port`` names the port that clients address, if it is not 80.
"""
