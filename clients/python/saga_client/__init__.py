"""The contract `saga.v1` as typed Python stubs, generated from the coordinator's `proto/saga/v1/`.

The stubs are as generated: no wrapper, no retry, no hidden connection. The one addition is `saga_client.worker`, a participant
that dials the coordinator and takes its tasks from a stream. In `saga_client.v1`:

    participant_service_pb2_grpc   ParticipantServiceServicer: implement it to take part in sagas
    participant_service_pb2        ExecuteRequest, ExecuteResponse, CompensateRequest, CompensateResponse
    worker_service_pb2_grpc        WorkerServiceStub: write a worker of your own, as saga_client.worker does
    saga_service_pb2_grpc          SagaServiceStub: start sagas, look at them, wait for them, cancel them
    saga_service_pb2               StartSagaRequest, GetSagaRequest, WaitSagaRequest, ...
    saga_pb2                       Saga, SagaStatus, StepState, Entry, Cause
    definition_service_pb2_grpc    DefinitionServiceStub: register definitions
    definition_pb2                 Definition, Step, Operation, RetryPolicy

Each stub takes a `grpc.Channel` or a `grpc.aio.Channel`. The messages' comments give units, limits and
defaults.
"""
