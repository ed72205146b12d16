# An auditor: reads the audit trail of the engine, what happened to pools, groups and configurations too, and which edges there are, and nothing
# else. Vault's own audit device is the second, independent record; it is not reached through Vault's API.

path "ampora/audit/events" {
  capabilities = ["read"]
}

# The names by which events call the edges, and when each was heard of last.
path "ampora/edges" {
  capabilities = ["list", "read"]
}

# Whom agents move to and come from, and which keys are pinned for them. There is no secret in it.
path "ampora/peers" {
  capabilities = ["list", "read"]
}

path "ampora/peers/+" {
  capabilities = ["read"]
}

# How far each handover is. A receipt in it is for the peer that it names, and whoever carries it does what an edge does.
path "ampora/handovers" {
  capabilities = ["list", "read"]
}

path "ampora/handovers/+" {
  capabilities = ["read"]
}

# For one tenant, these in the place of the above:
#
# path "ampora/tenants/acme/audit/events" { capabilities = ["read"] }
# path "ampora/tenants/acme/edges"        { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/handovers"    { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/handovers/+"  { capabilities = ["read"] }
