# A pool's issuer: one pipeline, or one installer. It makes tokens of this one pool, so what the pool says of group, lifetime and networks
# cannot be got round. It cannot list, read or revoke what it made, nor touch the pool.
#
# 'vault write -f -field=token ampora/pools/ci/issue' is an update, also without data.
#
# The pool here is ci. 'ampora setup --pool web' writes the same for web, as ampora-pool-issuer-web.

path "ampora/pools/ci/issue" {
  capabilities = ["update"]
}

# For a pool of one tenant, this in the place of the above. 'ampora setup --tenant acme --pool ci' writes it, as ampora-pool-issuer-acme.ci:
#
# path "ampora/tenants/acme/pools/ci/issue" { capabilities = ["update"] }
