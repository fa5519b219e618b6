/** What the simulator is told from outside: what GET /simulator and `ec2-ipam simulate --help` show. */
export const ADMIN_HELP = `The EC2 simulator: a strict VPC that is not there.

  POST /            the EC2 Query API: set AWS_ENDPOINT_URL_EC2 to this address, and any key and secret
  /latest/…         IMDSv2 of one instance: set AWS_EC2_METADATA_SERVICE_ENDPOINT to this address
  /simulator/…      this: JSON in, JSON out, for tests and trials. Nobody is asked who they are: loopback only.

Look
  GET    /simulator/state                          everything: clock, subnets, instances, ENIs, faults
  GET    /simulator/calls                          how often each EC2 action was called
  GET    /simulator/journal?after=N                what was changed, from the Nth entry on; "next" is the N to go on with

Change the VPC. What EC2 would refuse is refused here too; ids, MACs and addresses are made up where they are left out.
  POST   /simulator/subnets                        {"cidr":"10.0.3.0/24","id":…,"vpc":…,"zone":…,
                                                    "reservations":[{"cidr":"10.0.3.128/28","type":"prefix"}],
                                                    "owner":"123456789012","sharedWith":["210987654321"]}
  POST   /simulator/instances                      {"type":"m5.large","id":…,"zone":…}
  PUT    /simulator/instances/ID/state             {"state":"running"}, "stopped" or "terminated"
  POST   /simulator/enis                           {"subnet":"subnet-…","id":…,"mac":…,"primary":…,"secondaries":[…],
                                                    "prefixes":["10.0.3.16/28"],"tags":{…},"interfaceType":"lambda",
                                                    "requesterManaged":true,"description":…,"owner":…,
                                                    "attachment":{"instance":"i-…","deviceIndex":1}};
                                                    "primary":null: one without an IPv4 address
  DELETE /simulator/enis/ID                        a service's too, as if by that service
  POST   /simulator/enis/ID/attach                 {"instance":"i-…","deviceIndex":1}
  POST   /simulator/enis/ID/detach                 {}
  POST   /simulator/enis/ID/assign                 {"ips":["10.0.1.20"]} or {"count":3}; "allowReassignment":true moves
  POST   /simulator/enis/ID/unassign               {"ips":["10.0.1.20"]}
  POST   /simulator/foreign                        {"subnet":"subnet-…","ip":"10.0.1.99"}: a load balancer takes it

Make it fail, from now on
  POST   /simulator/faults                         {"kind":…} with "action":"AssignPrivateIpAddresses", "eni":"eni-…",
                                                    "times":2, "chance":0.5 where it shall not strike every call:
           {"kind":"latency","ms":250}              the answer is late
           {"kind":"error","code":…,"message":…}    refused, not applied
           {"kind":"throttle"}                      refused with RequestLimitExceeded
           {"kind":"lostReply"}                     applied, then the connection drops; or with "code" and
                                                    "message": applied, and yet answered with that error
           {"kind":"hang"}                          never answered, not applied
           {"kind":"applyLate","ms":60000}          the same, but applied that much later
           {"kind":"readLag","ms":5000}             reads show what was so then
           With "action":"InstanceMetadata" they strike instance metadata and nothing else; "code" is a status then,
           such as "403", or "200" with an empty "message"
  DELETE /simulator/faults                         all is well again
  PUT    /simulator/buckets                        {"scale":0.1}: EC2's token buckets, a tenth as large; null: off
  PUT    /simulator/date                           {"aheadMs":-60000}: the time of day of EC2's answers, and of its checks
  POST   /simulator/advance                        {"ms":330000}: sets the simulator's own clock forward

A VPC is described by the same objects in lists: {"region":…,"subnets":[…],"instances":[…],"enis":[…],
"instanceTypes":{"tiny.one":{"enis":2,"addressesPerEni":2}}}
`;
