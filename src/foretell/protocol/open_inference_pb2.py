"""Messages of the Open Inference Protocol. Written by scripts/generate_proto; do not edit."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(
    b'\n\x14open_inference.proto\x12\tinference"\x13\n\x11Ser'
    b'verLiveRequest"(\n\x12ServerLiveResponse\x12\x12\n\x04'
    b'live\x18\x01 \x01(\x08R\x04live"\x14\n\x12ServerReadyRequest"+'
    b"\n\x13ServerReadyResponse\x12\x14\n\x05ready\x18\x01 \x01(\x08R\x05re"
    b'ady"A\n\x11ModelReadyRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04'
    b'name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"*\n\x12ModelR'
    b'eadyResponse\x12\x14\n\x05ready\x18\x01 \x01(\x08R\x05ready"\x17\n\x15Se'
    b'rverMetadataRequest"f\n\x16ServerMetadataRes'
    b"ponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01"
    b"(\tR\x07version\x12\x1e\n\nextensions\x18\x03 \x03(\tR\nextensi"
    b'ons"D\n\x14ModelMetadataRequest\x12\x12\n\x04name\x18\x01 \x01('
    b'\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"\xe0\x03\n\x15Mo'
    b"delMetadataResponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12"
    b"\x1a\n\x08versions\x18\x02 \x03(\tR\x08versions\x12\x1a\n\x08platform\x18"
    b"\x03 \x01(\tR\x08platform\x12G\n\x06inputs\x18\x04 \x03(\x0b2/.infere"
    b"nce.ModelMetadataResponse.TensorMetadata"
    b"R\x06inputs\x12I\n\x07outputs\x18\x05 \x03(\x0b2/.inference.Mo"
    b"delMetadataResponse.TensorMetadataR\x07outp"
    b"uts\x12P\n\nproperties\x18\x06 \x03(\x0b20.inference.Mode"
    b"lMetadataResponse.PropertiesEntryR\nprope"
    b"rties\x1aV\n\x0eTensorMetadata\x12\x12\n\x04name\x18\x01 \x01(\tR\x04n"
    b"ame\x12\x1a\n\x08datatype\x18\x02 \x01(\tR\x08datatype\x12\x14\n\x05shape"
    b"\x18\x03 \x03(\x03R\x05shape\x1a=\n\x0fPropertiesEntry\x12\x10\n\x03key\x18"
    b'\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01"\xd7\x01\n'
    b"\x0eInferParameter\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tb"
    b"oolParam\x12!\n\x0bint64_param\x18\x02 \x01(\x03H\x00R\nint64Pa"
    b"ram\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParam"
    b"\x12#\n\x0cdouble_param\x18\x04 \x01(\x01H\x00R\x0bdoubleParam\x12#\n"
    b"\x0cuint64_param\x18\x05 \x01(\x04H\x00R\x0buint64ParamB\x12\n\x10pa"
    b'rameter_choice"\xc3\x02\n\x13InferTensorContents\x12#'
    b"\n\rbool_contents\x18\x01 \x03(\x08R\x0cboolContents\x12!\n\x0ci"
    b"nt_contents\x18\x02 \x03(\x05R\x0bintContents\x12%\n\x0eint64_"
    b"contents\x18\x03 \x03(\x03R\rint64Contents\x12#\n\ruint_co"
    b"ntents\x18\x04 \x03(\rR\x0cuintContents\x12'\n\x0fuint64_con"
    b"tents\x18\x05 \x03(\x04R\x0euint64Contents\x12#\n\rfp32_cont"
    b"ents\x18\x06 \x03(\x02R\x0cfp32Contents\x12#\n\rfp64_content"
    b"s\x18\x07 \x03(\x01R\x0cfp64Contents\x12%\n\x0ebytes_contents\x18"
    b'\x08 \x03(\x0cR\rbytesContents"\x9d\x08\n\x11ModelInferReque'
    b"st\x12\x1d\n\nmodel_name\x18\x01 \x01(\tR\tmodelName\x12#\n\rmod"
    b"el_version\x18\x02 \x01(\tR\x0cmodelVersion\x12\x0e\n\x02id\x18\x03 \x01"
    b"(\tR\x02id\x12L\n\nparameters\x18\x04 \x03(\x0b2,.inference.M"
    b"odelInferRequest.ParametersEntryR\nparame"
    b"ters\x12E\n\x06inputs\x18\x05 \x03(\x0b2-.inference.ModelIn"
    b"ferRequest.InferInputTensorR\x06inputs\x12Q\n\x07o"
    b"utputs\x18\x06 \x03(\x0b27.inference.ModelInferReque"
    b"st.InferRequestedOutputTensorR\x07outputs\x12,"
    b"\n\x12raw_input_contents\x18\x07 \x03(\x0cR\x10rawInputCont"
    b"ents\x1a\xcd\x02\n\x10InferInputTensor\x12\x12\n\x04name\x18\x01 \x01(\tR"
    b"\x04name\x12\x1a\n\x08datatype\x18\x02 \x01(\tR\x08datatype\x12\x14\n\x05sha"
    b"pe\x18\x03 \x03(\x03R\x05shape\x12]\n\nparameters\x18\x04 \x03(\x0b2=.in"
    b"ference.ModelInferRequest.InferInputTens"
    b"or.ParametersEntryR\nparameters\x12:\n\x08conten"
    b"ts\x18\x05 \x01(\x0b2\x1e.inference.InferTensorContents"
    b"R\x08contents\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01"
    b"(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.Infer"
    b"ParameterR\x05value:\x028\x01\x1a\xf3\x01\n\x1aInferRequestedO"
    b"utputTensor\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12g\n\nparam"
    b"eters\x18\x02 \x03(\x0b2G.inference.ModelInferReques"
    b"t.InferRequestedOutputTensor.ParametersE"
    b"ntryR\nparameters\x1aX\n\x0fParametersEntry\x12\x10\n\x03k"
    b"ey\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference"
    b".InferParameterR\x05value:\x028\x01\x1aX\n\x0fParameters"
    b"Entry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19"
    b'.inference.InferParameterR\x05value:\x028\x01"\xdf\x05\n'
    b"\x12ModelInferResponse\x12\x1d\n\nmodel_name\x18\x01 \x01(\tR"
    b"\tmodelName\x12#\n\rmodel_version\x18\x02 \x01(\tR\x0cmodel"
    b"Version\x12\x0e\n\x02id\x18\x03 \x01(\tR\x02id\x12M\n\nparameters\x18\x04 "
    b"\x03(\x0b2-.inference.ModelInferResponse.Param"
    b"etersEntryR\nparameters\x12I\n\x07outputs\x18\x05 \x03(\x0b2"
    b"/.inference.ModelInferResponse.InferOutp"
    b"utTensorR\x07outputs\x12.\n\x13raw_output_contents"
    b"\x18\x06 \x03(\x0cR\x11rawOutputContents\x1a\xd0\x02\n\x11InferOutpu"
    b"tTensor\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08datatype\x18"
    b"\x02 \x01(\tR\x08datatype\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape\x12_\n"
    b"\nparameters\x18\x04 \x03(\x0b2?.inference.ModelInfer"
    b"Response.InferOutputTensor.ParametersEnt"
    b"ryR\nparameters\x12:\n\x08contents\x18\x05 \x01(\x0b2\x1e.infer"
    b"ence.InferTensorContentsR\x08contents\x1aX\n\x0fPa"
    b"rametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value"
    b"\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05value"
    b":\x028\x01\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03ke"
    b"y\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParame"
    b'terR\x05value:\x028\x01"\x85\x01\n\x18ModelStreamInferRespo'
    b"nse\x12#\n\rerror_message\x18\x01 \x01(\tR\x0cerrorMessage"
    b"\x12D\n\x0einfer_response\x18\x02 \x01(\x0b2\x1d.inference.Mod"
    b'elInferResponseR\rinferResponse"f\n\nModelI'
    b"nput\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x120\n\tdata_type\x18\x02 "
    b"\x01(\x0e2\x13.inference.DataTypeR\x08dataType\x12\x12\n\x04di"
    b'ms\x18\x04 \x03(\x03R\x04dims"g\n\x0bModelOutput\x12\x12\n\x04name\x18\x01 '
    b"\x01(\tR\x04name\x120\n\tdata_type\x18\x02 \x01(\x0e2\x13.inference"
    b'.DataTypeR\x08dataType\x12\x12\n\x04dims\x18\x03 \x03(\x03R\x04dims"'
    b"\xda\x01\n\x0bModelConfig\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08p"
    b"latform\x18\x02 \x01(\tR\x08platform\x12$\n\x0emax_batch_siz"
    b"e\x18\x04 \x01(\x05R\x0cmaxBatchSize\x12+\n\x05input\x18\x05 \x03(\x0b2\x15.i"
    b"nference.ModelInputR\x05input\x12.\n\x06output\x18\x06 \x03"
    b"(\x0b2\x16.inference.ModelOutputR\x06output\x12\x18\n\x07ba"
    b'ckend\x18\x11 \x01(\tR\x07backend"B\n\x12ModelConfigReque'
    b"st\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR"
    b'\x07version"E\n\x13ModelConfigResponse\x12.\n\x06confi'
    b'g\x18\x01 \x01(\x0b2\x16.inference.ModelConfigR\x06config"'
    b"9\n\x11StatisticDuration\x12\x14\n\x05count\x18\x01 \x01(\x04R\x05cou"
    b'nt\x12\x0e\n\x02ns\x18\x02 \x01(\x04R\x02ns"\xf2\x03\n\x0fInferStatistics\x126'
    b"\n\x07success\x18\x01 \x01(\x0b2\x1c.inference.StatisticDur"
    b"ationR\x07success\x120\n\x04fail\x18\x02 \x01(\x0b2\x1c.inference"
    b".StatisticDurationR\x04fail\x122\n\x05queue\x18\x03 \x01(\x0b2"
    b"\x1c.inference.StatisticDurationR\x05queue\x12A\n\r"
    b"compute_input\x18\x04 \x01(\x0b2\x1c.inference.Statisti"
    b"cDurationR\x0ccomputeInput\x12A\n\rcompute_infer"
    b"\x18\x05 \x01(\x0b2\x1c.inference.StatisticDurationR\x0cco"
    b"mputeInfer\x12C\n\x0ecompute_output\x18\x06 \x01(\x0b2\x1c.inf"
    b"erence.StatisticDurationR\rcomputeOutput\x12"
    b"9\n\tcache_hit\x18\x07 \x01(\x0b2\x1c.inference.Statistic"
    b"DurationR\x08cacheHit\x12;\n\ncache_miss\x18\x08 \x01(\x0b2\x1c"
    b'.inference.StatisticDurationR\tcacheMiss"'
    b"\x80\x02\n\x14InferBatchStatistics\x12\x1d\n\nbatch_size\x18\x01"
    b" \x01(\x04R\tbatchSize\x12A\n\rcompute_input\x18\x02 \x01(\x0b2\x1c"
    b".inference.StatisticDurationR\x0ccomputeInp"
    b"ut\x12A\n\rcompute_infer\x18\x03 \x01(\x0b2\x1c.inference.St"
    b"atisticDurationR\x0ccomputeInfer\x12C\n\x0ecompute"
    b"_output\x18\x04 \x01(\x0b2\x1c.inference.StatisticDurat"
    b'ionR\rcomputeOutput"\xbf\x02\n\x0fModelStatistics\x12\x12'
    b"\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07ver"
    b"sion\x12%\n\x0elast_inference\x18\x03 \x01(\x04R\rlastInfere"
    b"nce\x12'\n\x0finference_count\x18\x04 \x01(\x04R\x0einferenceC"
    b"ount\x12'\n\x0fexecution_count\x18\x05 \x01(\x04R\x0eexecution"
    b"Count\x12C\n\x0finference_stats\x18\x06 \x01(\x0b2\x1a.inferen"
    b"ce.InferStatisticsR\x0einferenceStats\x12@\n\x0bba"
    b"tch_stats\x18\x07 \x03(\x0b2\x1f.inference.InferBatchSt"
    b'atisticsR\nbatchStats"F\n\x16ModelStatisticsR'
    b"equest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 "
    b'\x01(\tR\x07version"V\n\x17ModelStatisticsResponse\x12'
    b";\n\x0bmodel_stats\x18\x01 \x03(\x0b2\x1a.inference.ModelSt"
    b'atisticsR\nmodelStats"\xba\x01\n\x18ModelRepository'
    b"Parameter\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tboolPar"
    b"am\x12!\n\x0bint64_param\x18\x02 \x01(\x03H\x00R\nint64Param\x12#\n"
    b"\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParam\x12!\n\x0bby"
    b"tes_param\x18\x04 \x01(\x0cH\x00R\nbytesParamB\x12\n\x10paramet"
    b"er_choice\"W\n\x16RepositoryIndexRequest\x12'\n\x0fr"
    b"epository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x14\n\x05"
    b'ready\x18\x02 \x01(\x08R\x05ready"\xca\x01\n\x17RepositoryIndexRe'
    b"sponse\x12E\n\x06models\x18\x01 \x03(\x0b2-.inference.Repos"
    b"itoryIndexResponse.ModelIndexR\x06models\x1ah\n"
    b"\nModelIndex\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07versi"
    b"on\x18\x02 \x01(\tR\x07version\x12\x14\n\x05state\x18\x03 \x01(\tR\x05state\x12"
    b'\x16\n\x06reason\x18\x04 \x01(\tR\x06reason"\x9f\x02\n\x1aRepositoryMo'
    b"delLoadRequest\x12'\n\x0frepository_name\x18\x01 \x01(\tR"
    b"\x0erepositoryName\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\tmod"
    b"elName\x12U\n\nparameters\x18\x03 \x03(\x0b25.inference.R"
    b"epositoryModelLoadRequest.ParametersEntr"
    b"yR\nparameters\x1ab\n\x0fParametersEntry\x12\x10\n\x03key\x18"
    b"\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.inference.Mo"
    b'delRepositoryParameterR\x05value:\x028\x01"\x1d\n\x1bRep'
    b'ositoryModelLoadResponse"\xa3\x02\n\x1cRepositoryM'
    b"odelUnloadRequest\x12'\n\x0frepository_name\x18\x01 \x01"
    b"(\tR\x0erepositoryName\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\t"
    b"modelName\x12W\n\nparameters\x18\x03 \x03(\x0b27.inferenc"
    b"e.RepositoryModelUnloadRequest.Parameter"
    b"sEntryR\nparameters\x1ab\n\x0fParametersEntry\x12\x10\n"
    b"\x03key\x18\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.inferen"
    b'ce.ModelRepositoryParameterR\x05value:\x028\x01"\x1f'
    b"\n\x1dRepositoryModelUnloadResponse*\xfa\x01\n\x08Data"
    b"Type\x12\x10\n\x0cTYPE_INVALID\x10\x00\x12\r\n\tTYPE_BOOL\x10\x01\x12\x0e\n"
    b"\nTYPE_UINT8\x10\x02\x12\x0f\n\x0bTYPE_UINT16\x10\x03\x12\x0f\n\x0bTYPE_U"
    b"INT32\x10\x04\x12\x0f\n\x0bTYPE_UINT64\x10\x05\x12\r\n\tTYPE_INT8\x10\x06\x12"
    b"\x0e\n\nTYPE_INT16\x10\x07\x12\x0e\n\nTYPE_INT32\x10\x08\x12\x0e\n\nTYPE_"
    b"INT64\x10\t\x12\r\n\tTYPE_FP16\x10\n\x12\r\n\tTYPE_FP32\x10\x0b\x12\r\n"
    b"\tTYPE_FP64\x10\x0c\x12\x0f\n\x0bTYPE_STRING\x10\r\x12\r\n\tTYPE_BF"
    b"16\x10\x0e2\xb7\x08\n\x14GRPCInferenceService\x12K\n\nServerL"
    b"ive\x12\x1c.inference.ServerLiveRequest\x1a\x1d.infe"
    b'rence.ServerLiveResponse"\x00\x12N\n\x0bServerRead'
    b"y\x12\x1d.inference.ServerReadyRequest\x1a\x1e.infer"
    b'ence.ServerReadyResponse"\x00\x12K\n\nModelReady'
    b"\x12\x1c.inference.ModelReadyRequest\x1a\x1d.inferen"
    b'ce.ModelReadyResponse"\x00\x12W\n\x0eServerMetadat'
    b"a\x12 .inference.ServerMetadataRequest\x1a!.in"
    b'ference.ServerMetadataResponse"\x00\x12T\n\rMode'
    b"lMetadata\x12\x1f.inference.ModelMetadataReque"
    b'st\x1a .inference.ModelMetadataResponse"\x00\x12K'
    b"\n\nModelInfer\x12\x1c.inference.ModelInferReque"
    b'st\x1a\x1d.inference.ModelInferResponse"\x00\x12[\n\x10M'
    b"odelStreamInfer\x12\x1c.inference.ModelInferRe"
    b"quest\x1a#.inference.ModelStreamInferRespon"
    b'se"\x00(\x010\x01\x12N\n\x0bModelConfig\x12\x1d.inference.Mode'
    b"lConfigRequest\x1a\x1e.inference.ModelConfigRe"
    b'sponse"\x00\x12Z\n\x0fModelStatistics\x12!.inference.'
    b'ModelStatisticsRequest\x1a".inference.Model'
    b'StatisticsResponse"\x00\x12Z\n\x0fRepositoryIndex\x12'
    b'!.inference.RepositoryIndexRequest\x1a".inf'
    b'erence.RepositoryIndexResponse"\x00\x12f\n\x13Repo'
    b"sitoryModelLoad\x12%.inference.RepositoryMo"
    b"delLoadRequest\x1a&.inference.RepositoryMod"
    b'elLoadResponse"\x00\x12l\n\x15RepositoryModelUnloa'
    b"d\x12'.inference.RepositoryModelUnloadReque"
    b"st\x1a(.inference.RepositoryModelUnloadResp"
    b'onse"\x00b\x06proto3'
)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


SERVICE = "inference.GRPCInferenceService"
InferBatchStatistics = _message("InferBatchStatistics")
InferParameter = _message("InferParameter")
InferStatistics = _message("InferStatistics")
InferTensorContents = _message("InferTensorContents")
ModelConfig = _message("ModelConfig")
ModelConfigRequest = _message("ModelConfigRequest")
ModelConfigResponse = _message("ModelConfigResponse")
ModelInferRequest = _message("ModelInferRequest")
ModelInferResponse = _message("ModelInferResponse")
ModelInput = _message("ModelInput")
ModelMetadataRequest = _message("ModelMetadataRequest")
ModelMetadataResponse = _message("ModelMetadataResponse")
ModelOutput = _message("ModelOutput")
ModelReadyRequest = _message("ModelReadyRequest")
ModelReadyResponse = _message("ModelReadyResponse")
ModelRepositoryParameter = _message("ModelRepositoryParameter")
ModelStatistics = _message("ModelStatistics")
ModelStatisticsRequest = _message("ModelStatisticsRequest")
ModelStatisticsResponse = _message("ModelStatisticsResponse")
ModelStreamInferResponse = _message("ModelStreamInferResponse")
RepositoryIndexRequest = _message("RepositoryIndexRequest")
RepositoryIndexResponse = _message("RepositoryIndexResponse")
RepositoryModelLoadRequest = _message("RepositoryModelLoadRequest")
RepositoryModelLoadResponse = _message("RepositoryModelLoadResponse")
RepositoryModelUnloadRequest = _message("RepositoryModelUnloadRequest")
RepositoryModelUnloadResponse = _message("RepositoryModelUnloadResponse")
ServerLiveRequest = _message("ServerLiveRequest")
ServerLiveResponse = _message("ServerLiveResponse")
ServerMetadataRequest = _message("ServerMetadataRequest")
ServerMetadataResponse = _message("ServerMetadataResponse")
ServerReadyRequest = _message("ServerReadyRequest")
ServerReadyResponse = _message("ServerReadyResponse")
StatisticDuration = _message("StatisticDuration")
