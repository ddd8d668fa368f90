"""`saga-coordinator health`."""

from __future__ import annotations

import click
import grpc
from grpc_health.v1 import health_pb2

from saga_coordinator.cli.options import Failure, address_flag


@click.command()
@address_flag
@click.option(
    "--service",
    default="",
    metavar="NAME",
    help="Ask whether this service, such as saga.v1.SagaService, would be served now; otherwise, whether the process lives.",
)
@click.option(
    "--timeout", default=3.0, metavar="SECONDS", help="How long to wait for the answer. [default: 3]"
)
def health(address: str, service: str, timeout: float) -> None:
    """Exit with 0 when a coordinator serves at ADDRESS, else with 1."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer: health_pb2.HealthCheckResponse = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            if service and error.code() is grpc.StatusCode.NOT_FOUND:
                raise Failure(f"{address} serves no service named {service}") from None
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise Failure(
                    f"nothing answers at {address}: start a coordinator there, or name its address by --address or SAGA_ADDRESSES"
                ) from None
            raise Failure(f"{address} does not serve: {error.details() or error.code().name}") from None
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    click.echo(status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise click.exceptions.Exit(1)
