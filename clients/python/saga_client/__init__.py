"""The contract `saga.v1` as typed Python stubs, generated from the coordinator's `proto/saga/v1/`.

Nothing is added to what was generated: no wrapper, no retry, no hidden connection. Import what you need from where it is:

    saga_client.v1.participant_service_pb2        ExecuteRequest, ExecuteResponse, CompensateRequest, CompensateResponse
    saga_client.v1.participant_service_pb2_grpc   ParticipantServiceServicer: implement it to take part in sagas
    saga_client.v1.saga_service_pb2               StartSagaRequest, GetSagaRequest, WaitSagaRequest, ...
    saga_client.v1.saga_service_pb2_grpc          SagaServiceStub: start sagas, look at them, wait for them, cancel them
    saga_client.v1.saga_pb2                       Saga, SagaStatus, StepState, Entry, Cause
    saga_client.v1.definition_pb2                 Definition, Step, Operation, RetryPolicy
    saga_client.v1.definition_service_pb2_grpc    DefinitionServiceStub: register definitions

Each stub takes a `grpc.Channel` or a `grpc.aio.Channel`. Units, limits and defaults are in the comments of the messages.
"""
