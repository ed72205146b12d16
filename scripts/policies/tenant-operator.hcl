# The operator of one tenant: everything of that tenant, and nothing else. Tokens, pools, agents, groups, configurations and the tenant's
# part of the audit trail are below this one path, and so is whatever the engine may keep for a tenant later. What its own edge does (redeem,
# report) is there, too. The mount's settings, its certificate authorities and everybody else's things are not.
#
# The tenant here is acme. 'ampora setup --tenant globex' writes the same for globex, as ampora-tenant-operator-globex.

path "ampora/tenants/acme/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}
