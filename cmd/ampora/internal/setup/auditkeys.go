package setup

// Vault's audit log shows every string value as an HMAC, at any depth, unless its innermost map key is one of those tuned for the
// mount. The keys below open the facts that the engine's own events carry, so that both records tell the same story.
//
// The rule: a name is opened only if no field anywhere in our API with that name carries a secret, or text of an agent's own
// choosing: what an agent may write into the log, an attacker with one stolen token may write into the log. So these stay closed:
//
//   - token, tokens, admin_secret, private_key: secrets; csr, proof: made by agents, and bulky;
//   - idempotency_key: who knows it may ask for the answer again;
//   - display_name, instance_uid, description, capabilities, state_hash, applied: said by agents, also where operators write them;
//   - name, version, id, keys, type, state_text: words that a later field could use for anything;
//   - certificate, issuing_ca, ca_chain, bundle, certificates, endpoint_ca_bundle: public, but only bulk in a log: the fingerprint
//     and the serial number name them.
//
// source_ip is open: the edge takes it from the connection (or the PROXY protocol of a balancer it trusts), never from a message.

// AuditRequestKeys are the names that are readable in requests.
func AuditRequestKeys() []string {
	return []string{
		// What operators and pipelines ask for. Labels and reasons are theirs, and are what one looks for afterwards.
		"label", "reason", "ttl", "count", "tenant", "group", "bound_cidrs",
		// Whom an edge speaks of: ids and serials out of verified certificates, the address it saw.
		"agent_id", "serial_number", "fingerprint", "source_ip",
		// Whom an operator revokes or moves together.
		"agent_ids",
		// Which feed position an edge decides by, and for which names it wants a server certificate.
		"revision", "since", "dns_names", "ip_sans",
		// What auditors asked the trail. "since" stands above.
		"entity_type", "entity_id", "action", "until", "pool",
		// Why an edge refused somebody: a word of our catalogue.
		"code",
		// Settings, all an administrator's.
		"peer_id", "trust_domain", "endpoint", "federation_url", "token_ttl", "token_min_ttl", "token_max_ttl", "leaf_ttl",
		"leaf_max_ttl", "tenancy", "key_origin", "retry_window", "crl_distribution_points", "ocsp_servers", "heartbeat_interval",
		"edge_allowed_domains", "audit_retention", "agent_retention", "renew_proof", "crl_expiry", "handover_ttl", "handover_max_ttl",
		// Peers: whom an operator lets in, and how far.
		"suspended", "allowed_tenants", "allowed_groups", "allowed_configurations",
		// Issuers.
		"common_name", "key_type", "key_bits", "state",
	}
}

// AuditResponseKeys are the names that are readable in answers.
func AuditResponseKeys() []string {
	return []string{
		// Tokens: the public id, never the token.
		"token_id", "expires_at", "issued_at", "issued_by", "state", "label", "reason", "tenant", "group", "pool", "bound_cidrs",
		// Which pool it was, also when another one has its name by now, and which tokens were issued together.
		"pool_id", "batch_id",
		// Agents and their certificates.
		"agent_id", "serial_number", "next_serial_number", "fingerprint", "enrolled_at", "last_seen", "edge", "key_origin", "source_ip", "leaf",
		"revocation_reason", "revocation_time", "private_key_type", "configuration",
		// Issuers and the feed.
		"issuer_id", "common_name", "revision",
		// Which bundle of a peer is pinned, and which of ours it has.
		"bundle_sequence", "acknowledged_sequence", "suspended",
	}
}
