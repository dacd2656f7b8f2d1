"""What functions in a VPC lack to reach AWS: they have no way out but those that their subnets have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import translated
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_core.findings import Finding

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import RouteTableTypeDef, SecurityGroupTypeDef, SubnetTypeDef, VpcEndpointTypeDef

_HTTPS = 443
_FEW_ADDRESSES = 16
_ANYWHERE = ("0.0.0.0/0", "::/0")


class _Service(NamedTuple):
    """A service that functions ask: what for, how it is reached from a VPC, and how bad it is if it is not."""

    name: str
    wanted: str
    kind: Literal["Gateway", "Interface"]
    state: Literal["warning", "problem"]


def checks(client: Client, options: AwsLambdaOptions) -> Iterator[Finding]:
    """Look at subnets, security groups, routes and endpoints; nothing where functions are in no VPC.

    Raises:
        CloudDenied, NotThere, CloudError: as :func:`~lambdaml_aws_lambda.failures.translated`.
    """
    if not options.subnets:
        return
    with translated("looking at the subnets"):
        subnets = client.networks.describe_subnets(SubnetIds=list(options.subnets))["Subnets"]
    with translated("looking at the security groups"):
        groups = client.networks.describe_security_groups(GroupIds=list(options.security_groups))["SecurityGroups"]
    networks = {subnet["VpcId"] for subnet in subnets} | {group["VpcId"] for group in groups}
    if len(networks) != 1:
        said = "subnets and security groups are of several VPCs"
        yield Finding(what="vpc", state="problem", said=said, remedy="name those of one VPC")
        return
    yield from _addresses(subnets)
    yield from _ways_out(groups)
    (network,) = networks
    with translated("looking at the routes"):
        tables = client.networks.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [network]}])
    with translated("looking at the endpoints"):
        found = client.networks.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [network]}])
    for service in _services(options):
        yield from _reached(client.region, network, service, subnets, tables["RouteTables"], found["VpcEndpoints"])


def _services(options: AwsLambdaOptions) -> Iterator[_Service]:
    yield _Service("lambda", "start their successors", "Interface", "problem")
    if options.secret is not None:
        yield _Service("secretsmanager", "read their secret", "Interface", "problem")
    yield _Service("s3", "use s3://", "Gateway", "warning")
    yield _Service("dynamodb", "use dynamodb://", "Gateway", "warning")


def _addresses(subnets: Sequence[SubnetTypeDef]) -> Iterator[Finding]:
    for subnet in subnets:
        left = subnet.get("AvailableIpAddressCount", 0)
        if left < _FEW_ADDRESSES:
            yield Finding(
                what="subnet",
                state="warning",
                said=f"the subnet {subnet['SubnetId']} has {left} addresses left",
                remedy="name a larger subnet, or several",
            )


def _ways_out(groups: Sequence[SecurityGroupTypeDef]) -> Iterator[Finding]:
    """A function may do what any of its groups allows."""
    rules = [rule for group in groups for rule in group.get("IpPermissionsEgress", [])]
    names = ", ".join(group["GroupId"] for group in groups)
    if not any(_lets_out(rule) for rule in rules):
        yield Finding(
            what="security group",
            state="problem",
            said=f"{names} let nothing out to port {_HTTPS}, where AWS answers",
            remedy=f"allow tcp {_HTTPS}, and the cache's port, in the outbound rules",
        )
    else:
        yield Finding(what="security group", state="ok", said=f"{names} let functions out to port {_HTTPS}")


def _lets_out(rule: Mapping[str, Any]) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    return rule.get("IpProtocol") in ("tcp", "6") and rule.get("FromPort", 0) <= _HTTPS <= rule.get("ToPort", 65535)


def _reached(
    region: str,
    network: str,
    service: _Service,
    subnets: Sequence[SubnetTypeDef],
    tables: Sequence[RouteTableTypeDef],
    endpoints: Sequence[VpcEndpointTypeDef],
) -> Iterator[Finding]:
    name = f"com.amazonaws.{region}.{service.name}"
    here = [e for e in endpoints if e.get("ServiceName") == name and e.get("State", "").lower() == "available"]
    everywhere = any(e.get("VpcEndpointType") == "Interface" for e in here)
    routed = {table for endpoint in here for table in endpoint.get("RouteTableIds", [])}
    lacking = []
    for subnet in subnets:
        table = _table_of(subnet["SubnetId"], tables)
        if not (everywhere or table.get("RouteTableId") in routed or _leads_out(table)):
            lacking.append((subnet["SubnetId"], table.get("RouteTableId", "...")))
    if not lacking:
        yield Finding(what="way to " + service.name, state="ok", said=f"functions can {service.wanted}")
        return
    where = ", ".join(subnet for subnet, _ in lacking)
    made = f"aws ec2 create-vpc-endpoint --vpc-id {network} --service-name {name} --vpc-endpoint-type {service.kind}"
    if service.kind == "Gateway":
        made += f" --route-table-ids {' '.join(sorted({table for _, table in lacking}))}"
    else:
        made += f" --subnet-ids {' '.join(subnet for subnet, _ in lacking)}"
    yield Finding(
        what="way to " + service.name,
        state=service.state,
        said=f"from {where} functions cannot {service.wanted}: there is neither an endpoint nor a NAT gateway",
        remedy=made,
    )


def _table_of(subnet: str, tables: Sequence[RouteTableTypeDef]) -> RouteTableTypeDef:
    """That of a subnet, or else the main one of the VPC."""
    main: RouteTableTypeDef = {}
    for table in tables:
        for association in table.get("Associations", []):
            if association.get("SubnetId") == subnet:
                return table
            if association.get("Main"):
                main = table
    return main


def _leads_out(table: RouteTableTypeDef) -> bool:
    """By a NAT gateway or what is used as one. Functions have no public address, so an internet gateway is no way."""
    ways = ("NatGatewayId", "NetworkInterfaceId", "InstanceId", "TransitGatewayId", "VpcPeeringConnectionId")
    return any(
        route.get("DestinationCidrBlock") in _ANYWHERE and any(route.get(way) for way in ways)
        for route in table.get("Routes", [])
    )
