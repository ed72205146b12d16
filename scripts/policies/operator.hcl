# An operator: issues and ends tokens, keeps pools, groups, configurations and peers, looks after agents. Settings, certificate authorities and the
# audit trail are others' work; give ampora-auditor as well to who should see the trail. config/after-restore is for who restores Vault itself:
# an administrator.

path "ampora/tokens/issue" {
  capabilities = ["update"]
}

path "ampora/tokens" {
  capabilities = ["list", "read"]
}

# A row never holds the token itself.
path "ampora/tokens/+" {
  capabilities = ["read"]
}

path "ampora/tokens/+/revoke" {
  capabilities = ["update"]
}

path "ampora/tokens/revoke-all" {
  capabilities = ["update"]
}

path "ampora/pools" {
  capabilities = ["list", "read"]
}

path "ampora/pools/+" {
  capabilities = ["create", "read", "update", "delete"]
}

path "ampora/pools/+/issue" {
  capabilities = ["update"]
}

path "ampora/pools/+/rotate-secret" {
  capabilities = ["update"]
}

path "ampora/pools/+/revoke" {
  capabilities = ["update"]
}

path "ampora/agents" {
  capabilities = ["list", "read"]
}

# agents/group and agents/revoke, which move and revoke many agents at once, and agents/summary, which counts them, are among these.
path "ampora/agents/+" {
  capabilities = ["read", "update", "delete"]
}

path "ampora/agents/+/revoke" {
  capabilities = ["update"]
}

path "ampora/groups" {
  capabilities = ["list", "read"]
}

path "ampora/groups/+" {
  capabilities = ["create", "read", "update", "delete"]
}

path "ampora/configurations" {
  capabilities = ["list", "read"]
}

path "ampora/configurations/+" {
  capabilities = ["create", "read", "update", "delete"]
}

# Peers are the mount's: they let agents of other installations in. Who is not to decide that gets these without create, update and delete.
path "ampora/peers" {
  capabilities = ["list", "read"]
}

path "ampora/peers/+" {
  capabilities = ["create", "read", "update", "delete"]
}

# The same, with keys alone and on the word of a key that is pinned. Edges do it by themselves; without a route it is done by hand.
path "ampora/peers/+/bundle" {
  capabilities = ["update"]
}

# Agents move to peers and come from them.
path "ampora/agents/+/handover" {
  capabilities = ["update"]
}

path "ampora/handover/inspect" {
  capabilities = ["update"]
}

path "ampora/handover/redeem" {
  capabilities = ["update"]
}

# Whole groups move by handover files: 'ampora handover'.
path "ampora/handover/issue" {
  capabilities = ["update"]
}

path "ampora/handover/manifest" {
  capabilities = ["update"]
}

path "ampora/handover/progress" {
  capabilities = ["update"]
}

path "ampora/handovers" {
  capabilities = ["list", "read"]
}

path "ampora/handovers/+" {
  capabilities = ["read", "update", "delete"]
}

# Edges carry receipts by themselves; where there is no route between two installations, people do.
path "ampora/handover/outbox" {
  capabilities = ["read"]
}

path "ampora/handover/receipt" {
  capabilities = ["update"]
}

path "ampora/edges" {
  capabilities = ["list", "read"]
}

# The limits that a refused ttl or name speaks of. There is no secret in it.
path "ampora/config" {
  capabilities = ["read"]
}

# What 'ampora status' tells of issuers and of their lists of revoked certificates. The keys stay in Vault.
path "ampora/ca/issuers" {
  capabilities = ["list"]
}

path "ampora/edge/crl" {
  capabilities = ["update"]
}

# For one tenant, these in the place of all the above:
#
# path "ampora/tenants/acme/tokens/issue"          { capabilities = ["update"] }
# path "ampora/tenants/acme/tokens"                { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/tokens/+"              { capabilities = ["read"] }
# path "ampora/tenants/acme/tokens/+/revoke"       { capabilities = ["update"] }
# path "ampora/tenants/acme/tokens/revoke-all"     { capabilities = ["update"] }
# path "ampora/tenants/acme/pools"                 { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/pools/+"               { capabilities = ["create", "read", "update", "delete"] }
# path "ampora/tenants/acme/pools/+/issue"         { capabilities = ["update"] }
# path "ampora/tenants/acme/pools/+/rotate-secret" { capabilities = ["update"] }
# path "ampora/tenants/acme/pools/+/revoke"        { capabilities = ["update"] }
# path "ampora/tenants/acme/agents"                { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/agents/+"              { capabilities = ["read", "update", "delete"] }
# path "ampora/tenants/acme/agents/+/revoke"       { capabilities = ["update"] }
# path "ampora/tenants/acme/groups"                { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/groups/+"              { capabilities = ["create", "read", "update", "delete"] }
# path "ampora/tenants/acme/configurations"        { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/configurations/+"      { capabilities = ["create", "read", "update", "delete"] }
# path "ampora/tenants/acme/agents/+/handover"     { capabilities = ["update"] }
# path "ampora/tenants/acme/handover/inspect"      { capabilities = ["update"] }
# path "ampora/tenants/acme/handover/redeem"       { capabilities = ["update"] }
# path "ampora/tenants/acme/handover/issue"        { capabilities = ["update"] }
# path "ampora/tenants/acme/handover/manifest"     { capabilities = ["update"] }
# path "ampora/tenants/acme/handover/progress"     { capabilities = ["update"] }
# path "ampora/tenants/acme/handovers"             { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/handovers/+"           { capabilities = ["read", "update", "delete"] }
# path "ampora/handover/receipt"                   { capabilities = ["update"] }
# path "ampora/tenants/acme/edges"                 { capabilities = ["list", "read"] }
# path "ampora/config"                             { capabilities = ["read"] }
# path "ampora/ca/issuers"                         { capabilities = ["list"] }
# path "ampora/edge/crl"                           { capabilities = ["update"] }
